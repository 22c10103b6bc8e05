//! How far taking over a state has come, as it is noted beside what was taken over.

use session_chain::sync::{DEPTH_MAX, Part};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};

use super::Summary;

/// What is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Which state.
    pub(crate) summary: Summary,
    /// Depth of its parts.
    pub(crate) depth: u8,
    records: Vec<u8>,
    /// Parts of which cells may be there.
    begun: Vec<u8>,
    cells: Vec<u8>,
}

const fn bytes_for(depth: u8) -> usize {
    (1usize << depth).div_ceil(8)
}

impl Progress {
    /// Nothing yet, in 2^`depth` parts.
    pub(crate) fn new(summary: Summary, depth: u8) -> Self {
        Self {
            summary,
            depth,
            records: vec![0; bytes_for(depth)],
            begun: vec![0; bytes_for(depth)],
            cells: vec![0; bytes_for(depth)],
        }
    }

    const fn set(&self, stage: Stage) -> &Vec<u8> {
        match stage {
            Stage::Records => &self.records,
            Stage::Begun => &self.begun,
            Stage::Cells => &self.cells,
        }
    }

    const fn set_mut(&mut self, stage: Stage) -> &mut Vec<u8> {
        match stage {
            Stage::Records => &mut self.records,
            Stage::Begun => &mut self.begun,
            Stage::Cells => &mut self.cells,
        }
    }

    /// Marks a part. Answers whether it was marked before.
    pub(crate) fn mark(&mut self, stage: Stage, number: u32) -> bool {
        let bit = 1 << (number % 8);
        match self.set_mut(stage).get_mut(number as usize / 8) {
            Some(byte) => {
                let before = *byte & bit != 0;
                *byte |= bit;
                before
            }
            None => false,
        }
    }

    /// Marks a part as not whole.
    pub(crate) fn unmark(&mut self, stage: Stage, number: u32) {
        if let Some(byte) = self.set_mut(stage).get_mut(number as usize / 8) {
            *byte &= !(1 << (number % 8));
        }
    }

    /// Parts of a stage that are not whole.
    pub(crate) fn missing(&self, stage: Stage) -> Vec<Part> {
        let set = self.set(stage);
        let is_set = |number: &u32| {
            let byte = set.get(*number as usize / 8);
            byte.is_some_and(|byte| (byte >> (number % 8)) & 1 == 1)
        };
        let depth = self.depth;
        (0..1u32 << depth)
            .filter(|number| !is_set(number))
            .map(|number| Part { depth, number })
            .collect()
    }
}

/// What is taken over of a part, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The records.
    Records,
    /// Something of what belongs to them.
    Begun,
    /// All of it.
    Cells,
}

impl Encode for Progress {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.summary).u8(self.depth);
        out.raw(&self.records).raw(&self.begun).raw(&self.cells);
    }
}

impl Decode for Progress {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let summary = Summary::decode(input)?;
        let depth = input.u8("depth")?;
        if depth > DEPTH_MAX {
            return Err(DecodeError::Invalid { what: "depth" });
        }
        let bytes = bytes_for(depth);
        Ok(Self {
            summary,
            depth,
            records: input.take("parts", bytes)?.to_vec(),
            begun: input.take("parts", bytes)?.to_vec(),
            cells: input.take("parts", bytes)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::header::Header;
    use session_core::ids::{BlockId, ChainId};
    use session_core::time::Time;

    #[test]
    fn what_is_whole_is_remembered() {
        let header = Header {
            chain: ChainId::from_bytes([1; 32]),
            parent: BlockId::from_bytes([2; 32]),
            height: 7,
            time: Time::from_ms(9),
            tx_root: [3; 32],
            count: 0,
            state_root: [4; 32],
        };
        for depth in [0, 2, 5, DEPTH_MAX] {
            let mut progress = Progress::new(Summary { header }, depth);
            let last = (1u32 << depth) - 1;
            assert!(!progress.mark(Stage::Records, last));
            assert!(progress.mark(Stage::Records, last));
            progress.mark(Stage::Cells, last);
            progress.mark(Stage::Cells, 0);
            if last > 0 {
                progress.unmark(Stage::Cells, last);
            }
            let read = Progress::from_bytes(&progress.to_bytes()).unwrap();
            assert_eq!(read, progress);
            let missing = |stage| {
                read.missing(stage)
                    .iter()
                    .map(|p| p.number)
                    .collect::<Vec<_>>()
            };
            assert_eq!(missing(Stage::Records), (0..last).collect::<Vec<_>>());
            assert_eq!(missing(Stage::Cells), (1..=last).collect::<Vec<_>>());
        }
    }
}
