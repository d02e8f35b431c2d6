//! Many queues in one arena: whoever stands in one can leave from the middle in constant time.
//!
//! A [`Key`] stays good while its value moves from list to list. Nothing is allocated when the arena
//! has room, and an empty [`List`] is twelve bytes.

use slab::Slab;

/// Where a value lies in its arena.
pub(super) type Key = u32;

/// The values of many lists.
#[derive(Debug)]
pub(super) struct Lists<T> {
    nodes: Slab<Node<T>>,
}

/// One queue of values, the first in first.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: Key,
    tail: Key,
    len: u32,
}

#[derive(Debug)]
struct Node<T> {
    value: T,
    before: Key,
    after: Key,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn first(&self) -> Option<Key> {
        (self.head != NIL).then_some(self.head)
    }
}

impl<T> Lists<T> {
    pub(super) fn new() -> Self {
        Self { nodes: Slab::new() }
    }

    /// Whether nobody stands in any of the lists.
    pub(super) fn are_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn get(&self, key: Key) -> &T {
        &self.node(key).value
    }

    pub(super) fn get_mut(&mut self, key: Key) -> &mut T {
        &mut self.node_mut(key).value
    }

    /// The value at the front of `list`.
    pub(super) fn front(&self, list: &List) -> Option<&T> {
        list.first().map(|key| self.get(key))
    }

    /// Where the values of `list` lie, the first first.
    pub(super) fn keys(&self, list: &List) -> impl Iterator<Item = Key> {
        std::iter::successors(list.first(), |key| {
            let after = self.node(*key).after;
            (after != NIL).then_some(after)
        })
    }

    pub(super) fn push_back(&mut self, list: &mut List, value: T) -> Key {
        let key = self.nodes.insert(Node { value, before: NIL, after: NIL });
        let key = Key::try_from(key).expect("the limits keep every arena below four thousand million");
        self.link(list, key);
        key
    }

    /// Takes the value at `key` out of `list`, in which it must be.
    pub(super) fn remove(&mut self, list: &mut List, key: Key) -> T {
        self.unlink(list, key);
        self.nodes.remove(key as usize).value
    }

    /// Moves the value at `key` from the one list to the back of the other.
    pub(super) fn transfer(&mut self, from: &mut List, to: &mut List, key: Key) {
        self.unlink(from, key);
        self.link(to, key);
    }

    fn link(&mut self, list: &mut List, key: Key) {
        let tail = list.tail;
        let node = self.node_mut(key);
        (node.before, node.after) = (tail, NIL);
        match tail {
            NIL => list.head = key,
            tail => self.node_mut(tail).after = key,
        }
        list.tail = key;
        list.len += 1;
    }

    fn unlink(&mut self, list: &mut List, key: Key) {
        let (before, after) = (self.node(key).before, self.node(key).after);
        match before {
            NIL => list.head = after,
            before => self.node_mut(before).after = after,
        }
        match after {
            NIL => list.tail = before,
            after => self.node_mut(after).before = before,
        }
        list.len -= 1;
    }

    fn node(&self, key: Key) -> &Node<T> {
        self.nodes.get(key as usize).expect("a key is kept no longer than its value")
    }

    fn node_mut(&mut self, key: Key) -> &mut Node<T> {
        self.nodes.get_mut(key as usize).expect("a key is kept no longer than its value")
    }
}

const NIL: Key = Key::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(lists: &mut Lists<char>, list: &mut List) -> String {
        std::iter::from_fn(|| list.first().map(|key| lists.remove(list, key))).collect()
    }

    /// Four in a row; one leaves from the middle, one from either end, and one changes queues.
    #[test]
    fn anyone_can_leave_from_anywhere() {
        let mut lists = Lists::new();
        let (mut left, mut right) = (List::EMPTY, List::EMPTY);
        let keys: Vec<Key> = "abcdef".chars().map(|name| lists.push_back(&mut left, name)).collect();
        assert_eq!(lists.remove(&mut left, keys[2]), 'c');
        assert_eq!(lists.remove(&mut left, keys[0]), 'a');
        assert_eq!(lists.remove(&mut left, keys[5]), 'f');
        lists.transfer(&mut left, &mut right, keys[3]);
        assert_eq!((left.len(), right.len()), (2, 1));
        assert_eq!(lists.front(&left), Some(&'b'));
        assert_eq!(lists.keys(&left).collect::<Vec<_>>(), [keys[1], keys[4]]);
        assert_eq!(drain(&mut lists, &mut left), "be");
        assert_eq!(drain(&mut lists, &mut right), "d");
        assert!(left.is_empty() && right.is_empty());
    }
}
