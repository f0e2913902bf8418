//! Byte vectors that one core keeps for reuse.

use std::cell::RefCell;

/// How many there are at most, and the largest that is kept.
const VECTORS_MAX: usize = 64;
const VECTOR_BYTES_MAX: usize = 64 << 10;

/// The vectors that came back, all of them empty.
#[derive(Default)]
pub struct Vectors(RefCell<Vec<Vec<u8>>>);

impl Vectors {
    /// An empty vector with some capacity, if one came back.
    pub fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a vector back, whatever it holds.
    pub fn give_back(&self, mut vector: Vec<u8>) {
        let mut vectors = self.0.borrow_mut();
        if (1..=VECTOR_BYTES_MAX).contains(&vector.capacity()) && vectors.len() < VECTORS_MAX {
            vector.clear();
            vectors.push(vector);
        }
    }
}
