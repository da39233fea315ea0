//! The random bits that a caller gives for one choice, stretched to as many as the choice needs.

/// A short sequence of numbers made of 64 random bits: SplitMix64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits(u64);

impl Bits {
    pub(super) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let scaled = (u128::from(mix(self.0)) * n as u128) >> 64;
        usize::try_from(scaled).expect("it is less than n")
    }
}

/// The finalizer of SplitMix64: every bit of the input changes half of the output's.
pub(super) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
