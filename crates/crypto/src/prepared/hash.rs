//! SHAKE (FIPS 202): a third of a verification with a prepared key is Keccak, and allowing it
//! the rotate and and-not instructions of the machine saves a quarter of that.

use super::dispatch;

/// Bytes that SHAKE128 takes or gives at a time.
const RATE_128: usize = 168;
/// Bytes that SHAKE256 takes or gives at a time.
const RATE_256: usize = 136;

/// SHAKE256 of the parts in order.
pub(super) fn shake256(parts: &[&[u8]], out: &mut [u8]) {
    Stream::<RATE_256>::of(parts).read(out);
}

/// SHAKE256 of the parts in order, to be read as far as needed.
pub(super) fn shake256_stream(parts: &[&[u8]]) -> Stream<RATE_256> {
    Stream::of(parts)
}

/// SHAKE128 of the parts in order, to be read as far as needed.
pub(super) fn shake128_stream(parts: &[&[u8]]) -> Stream<RATE_128> {
    Stream::of(parts)
}

/// The output of a SHAKE.
pub(super) struct Stream<const RATE: usize> {
    state: [u64; 25],
    block: [u8; RATE],
    /// Bytes of the block already given; `RATE` when the next one has to be made.
    given: usize,
    /// Whether a block was given: the first needs no permutation, the last input had one.
    squeezed: bool,
}

impl<const RATE: usize> Stream<RATE> {
    fn of(parts: &[&[u8]]) -> Self {
        let mut stream = Self {
            state: [0; 25],
            block: [0; RATE],
            given: RATE,
            squeezed: false,
        };
        let mut filled = 0;
        for part in parts {
            let mut part = *part;
            while !part.is_empty() {
                let room = stream.block.get_mut(filled..).unwrap_or_default();
                let (now, later) = part.split_at(part.len().min(room.len()));
                for (to, from) in room.iter_mut().zip(now) {
                    *to = *from;
                }
                filled += now.len();
                part = later;
                if filled == RATE {
                    stream.absorb();
                    filled = 0;
                }
            }
        }
        // The suffix 1111 of an extendable output, then padding 10*1 (FIPS 202 §6.2).
        let rest = stream.block.get_mut(filled..).unwrap_or_default();
        rest.fill(0);
        if let Some(first) = rest.first_mut() {
            *first = 0x1f;
        }
        if let Some(last) = rest.last_mut() {
            *last |= 0x80;
        }
        stream.absorb();
        stream
    }

    fn absorb(&mut self) {
        for (lane, bytes) in self.state.iter_mut().zip(self.block.as_chunks::<8>().0) {
            *lane ^= u64::from_le_bytes(*bytes);
        }
        dispatch::permute(&mut self.state);
    }

    /// The next bytes of the output.
    pub(super) fn read(&mut self, out: &mut [u8]) {
        let mut out = out;
        while !out.is_empty() {
            if self.given == RATE {
                self.squeeze();
            }
            let ready = self.block.get(self.given..).unwrap_or_default();
            let (now, later) = out.split_at_mut(out.len().min(ready.len()));
            for (to, from) in now.iter_mut().zip(ready) {
                *to = *from;
            }
            self.given += now.len();
            out = later;
        }
    }

    fn squeeze(&mut self) {
        if self.squeezed {
            dispatch::permute(&mut self.state);
        }
        for (lane, bytes) in self.state.iter().zip(self.block.as_chunks_mut::<8>().0) {
            *bytes = lane.to_le_bytes();
        }
        self.squeezed = true;
        self.given = 0;
    }
}

/// Keccak-f[1600] (FIPS 202 §3.3). Inlined into each variant of `dispatch`.
#[inline(always)]
pub(super) fn permute(state: &mut [u64; 25]) {
    let mut a = *state;
    for [first, second] in ROUNDS.as_chunks::<2>().0 {
        a = round(round(a, *first), *second);
    }
    *state = a;
}

#[inline(always)]
#[allow(clippy::many_single_char_names, reason = "the rows of the standard")]
fn round(a: [u64; 25], constant: u64) -> [u64; 25] {
    let c0 = a[0] ^ a[5] ^ a[10] ^ a[15] ^ a[20];
    let c1 = a[1] ^ a[6] ^ a[11] ^ a[16] ^ a[21];
    let c2 = a[2] ^ a[7] ^ a[12] ^ a[17] ^ a[22];
    let c3 = a[3] ^ a[8] ^ a[13] ^ a[18] ^ a[23];
    let c4 = a[4] ^ a[9] ^ a[14] ^ a[19] ^ a[24];
    let d0 = c4 ^ c1.rotate_left(1);
    let d1 = c0 ^ c2.rotate_left(1);
    let d2 = c1 ^ c3.rotate_left(1);
    let d3 = c2 ^ c4.rotate_left(1);
    let d4 = c3 ^ c0.rotate_left(1);
    let turn = |x: u64, d: u64, by: u32| (x ^ d).rotate_left(by);
    let [r0, r1, r2, r3, r4] = chi(
        a[0] ^ d0,
        turn(a[6], d1, 44),
        turn(a[12], d2, 43),
        turn(a[18], d3, 21),
        turn(a[24], d4, 14),
    );
    let [r5, r6, r7, r8, r9] = chi(
        turn(a[3], d3, 28),
        turn(a[9], d4, 20),
        turn(a[10], d0, 3),
        turn(a[16], d1, 45),
        turn(a[22], d2, 61),
    );
    let [r10, r11, r12, r13, r14] = chi(
        turn(a[1], d1, 1),
        turn(a[7], d2, 6),
        turn(a[13], d3, 25),
        turn(a[19], d4, 8),
        turn(a[20], d0, 18),
    );
    let [r15, r16, r17, r18, r19] = chi(
        turn(a[4], d4, 27),
        turn(a[5], d0, 36),
        turn(a[11], d1, 10),
        turn(a[17], d2, 15),
        turn(a[23], d3, 56),
    );
    let [r20, r21, r22, r23, r24] = chi(
        turn(a[2], d2, 62),
        turn(a[8], d3, 55),
        turn(a[14], d4, 39),
        turn(a[15], d0, 41),
        turn(a[21], d1, 2),
    );
    [
        r0 ^ constant,
        r1,
        r2,
        r3,
        r4,
        r5,
        r6,
        r7,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        r16,
        r17,
        r18,
        r19,
        r20,
        r21,
        r22,
        r23,
        r24,
    ]
}

#[inline(always)]
fn chi(a: u64, b: u64, c: u64, d: u64, e: u64) -> [u64; 5] {
    [
        a ^ (!b & c),
        b ^ (!c & d),
        c ^ (!d & e),
        d ^ (!e & a),
        e ^ (!a & b),
    ]
}

/// Round constants (FIPS 202 §3.2.5).
#[rustfmt::skip]
const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001, 0x0000_0000_0000_8082, 0x8000_0000_0000_808a, 0x8000_0000_8000_8000,
    0x0000_0000_0000_808b, 0x0000_0000_8000_0001, 0x8000_0000_8000_8081, 0x8000_0000_0000_8009,
    0x0000_0000_0000_008a, 0x0000_0000_0000_0088, 0x0000_0000_8000_8009, 0x0000_0000_8000_000a,
    0x0000_0000_8000_808b, 0x8000_0000_0000_008b, 0x8000_0000_0000_8089, 0x8000_0000_0000_8003,
    0x8000_0000_0000_8002, 0x8000_0000_0000_0080, 0x0000_0000_0000_800a, 0x8000_0000_8000_000a,
    0x8000_0000_8000_8081, 0x8000_0000_0000_8080, 0x0000_0000_8000_0001, 0x8000_0000_8000_8008,
];

#[cfg(test)]
mod tests {
    use super::*;
    use shake::digest::{ExtendableOutput, Update, XofReader};

    #[test]
    fn every_length_agrees_with_the_library() {
        let input: Vec<u8> = (0..600).map(|i| (i % 251) as u8).collect();
        for len in 0..600 {
            let (head, tail) = input[..len].split_at(len / 3);
            let (mut ours, mut theirs) = ([0; 400], [0; 400]);
            shake256(&[head, &[], tail], &mut ours);
            let mut library = shake::Shake256::default();
            library.update(&input[..len]);
            library.finalize_xof().read(&mut theirs);
            assert_eq!(ours, theirs, "SHAKE256 of {len}");

            let mut stream = shake128_stream(&[head, tail]);
            ours.chunks_mut(1 + len % 200)
                .for_each(|chunk| stream.read(chunk));
            let mut library = shake::Shake128::default();
            library.update(&input[..len]);
            library.finalize_xof().read(&mut theirs);
            assert_eq!(ours, theirs, "SHAKE128 of {len}");
        }
    }
}
