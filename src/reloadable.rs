//! What SIGHUP replaces while the server runs: certificates, tokens, keys of JWTs.
//!
//! The value is replaced as a whole: whoever holds the old one keeps it, and the next caller gets
//! the new one. Each core keeps a reference of its own and looks at a counter before it uses that,
//! so that asking costs no lock.

use std::cell::{Cell, Ref, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A value that all cores share until the next one is put in its place.
pub struct Reloadable<T> {
    version: AtomicU64,
    current: Mutex<Arc<T>>,
}

impl<T> Reloadable<T> {
    pub fn new(value: T) -> Self {
        Self { version: AtomicU64::new(0), current: Mutex::new(Arc::new(value)) }
    }

    pub fn current(&self) -> Arc<T> {
        self.current.lock().expect("no holder of this lock panics").clone()
    }

    /// How often the value was replaced.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub fn replace(&self, value: T) {
        *self.current.lock().expect("no holder of this lock panics") = Arc::new(value);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// What one core knows of a [`Reloadable`].
pub struct Known<T> {
    version: Cell<u64>,
    value: RefCell<Arc<T>>,
}

impl<T> Known<T> {
    pub fn new(source: &Reloadable<T>) -> Self {
        // The counter first: a value that is newer than it is asked for once more, and nothing
        // else.
        let version = source.version.load(Ordering::Acquire);
        Self { version: Cell::new(version), value: RefCell::new(source.current()) }
    }

    /// The value of `source` as of now, and whether it is another one than at the last call.
    pub fn get(&self, source: &Reloadable<T>) -> (Ref<'_, Arc<T>>, bool) {
        let version = source.version.load(Ordering::Acquire);
        let is_new = self.version.replace(version) != version;
        if is_new {
            *self.value.borrow_mut() = source.current();
        }
        (self.value.borrow(), is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_sees_what_was_put_in_place_before_it_asked() {
        let source = Reloadable::new(1);
        let known = Known::new(&source);
        let seen = |expected: (i32, bool)| {
            let (value, is_new) = known.get(&source);
            assert_eq!((**value, is_new), expected);
        };
        seen((1, false));
        source.replace(2);
        source.replace(3);
        seen((3, true));
        seen((3, false));
    }

    #[test]
    fn who_holds_the_old_value_keeps_it() {
        let source = Reloadable::new(String::from("old"));
        let held = source.current();
        source.replace(String::from("new"));
        assert_eq!((held.as_str(), source.current().as_str()), ("old", "new"));
    }
}
