//! A stand-in for the node's process: the parent of one plugin, and what it asks for a number.
//!
//! ```text
//! fakehost-launcher PLUGIN         starts it as a node does, passes its output on, ends with it
//! fakehost-launcher --version-json the number in the file `protocol` beside the program, or 44,
//!                                  or nothing at all where the file says `hang`
//! fakehost-launcher --exec PLUGIN  becomes the plugin, with SIGTERM for its parent's death
//! ```

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["--version-json"] => version(),
        ["--exec", plugin] => become_plugin(plugin),
        [plugin] => launch(plugin),
        _ => Err(std::io::Error::other("one plugin is expected")),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fakehost-launcher: {error}");
            ExitCode::from(101)
        }
    }
}

fn version() -> std::io::Result<ExitCode> {
    let mut beside: PathBuf = std::env::current_exe()?;
    beside.set_file_name("protocol");
    let number = std::fs::read_to_string(beside).unwrap_or_else(|_| "44".to_owned());
    if number == "hang" {
        loop {
            std::thread::park();
        }
    }
    println!("{{\"application\":\"fakehost/1.14.0\",\"rpcchainvm\":{number},\"go\":\"none\"}}");
    Ok(ExitCode::SUCCESS)
}

fn become_plugin(plugin: &str) -> std::io::Result<ExitCode> {
    // As the node sets it; it outlives `exec`.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    Err(Command::new(plugin).exec())
}

fn launch(plugin: &str) -> std::io::Result<ExitCode> {
    // Nobody else would end this program if the test were killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exec", plugin])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    println!("launched {}", child.id());
    let pipes = [
        child
            .stdout
            .take()
            .map(|pipe| pass(pipe, std::io::stdout())),
        child
            .stderr
            .take()
            .map(|pipe| pass(pipe, std::io::stderr())),
    ];
    let status = child.wait()?;
    for pipe in pipes.into_iter().flatten() {
        let _over = pipe.join();
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(100)))
}

fn pass(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut piece = [0; 4_096];
        while let Ok(n) = from.read(&mut piece)
            && n > 0
            && let Some(piece) = piece.get(..n)
        {
            let _closed = to.write_all(piece).and_then(|()| to.flush());
        }
    })
}
