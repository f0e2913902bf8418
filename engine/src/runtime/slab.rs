//! A table whose entries keep their index, with reuse of the free ones. The owner of an index
//! removes it exactly once.

pub(super) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(value);
                index
            }
            None => {
                self.entries.push(Some(value));
                u32::try_from(self.entries.len() - 1).expect("fewer entries than 2^32")
            }
        }
    }

    pub fn remove(&mut self, index: u32) -> T {
        let value = self.entries[index as usize].take().expect("an index is removed once");
        self.free.push(index);
        value
    }

    pub fn get_mut(&mut self, index: u32) -> &mut T {
        self.entries[index as usize].as_mut().expect("an index is used while it is owned")
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().flatten()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_stable_and_reused() {
        let mut slab = Slab::default();
        let (first, second) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(first), 'a');
        assert_eq!(*slab.get_mut(second), 'b');
        assert_eq!(slab.insert('c'), first);
        assert_eq!((slab.len(), slab.iter().collect::<String>()), (2, "cb".to_string()));
    }
}
