//! Accepting items and remembering progress, within one transaction.

use rusqlite::{Connection, OptionalExtension, params};
use southbridge_words::{Append, Appended, Mark, OpenTransaction, Seq};

use super::items;
use super::progress;
use super::state::{Added, State, Totals};
use super::trouble::Done;
use crate::ledger::to_sql;

/// A write under way.
pub(super) struct Write<'a> {
    connection: &'a Connection,
    state: &'a mut State,
    added: Added,
}

impl<'a> Write<'a> {
    pub(super) fn new(connection: &'a Connection, state: &'a mut State) -> Self {
        Self { connection, state, added: Added::default() }
    }

    /// Does all of it; what was added is to be kept when the transaction is durable.
    pub(super) fn perform(mut self, appends: &[Append], marks: &[Mark]) -> Done<(Vec<Appended>, Added)> {
        let answers: Done<Vec<_>> = appends.iter().map(|append| self.append(append)).collect();
        let answers = answers?;
        for mark in marks {
            self.mark(mark)?;
        }
        if !self.added.items.is_empty() {
            let items = self.state.items + self.added.items.len() as u64;
            Totals { last: self.state.last, items }.save(self.connection)?;
        }
        Ok((answers, self.added))
    }

    fn append(&mut self, append: &Append) -> Done<Appended> {
        if let Some(known) = self.known(append.key.as_deref())? {
            return Ok(Appended::Known(known));
        }
        let State { names, sets, live, last, .. } = &mut *self.state;
        let set = sets.of(self.connection, names, &append.destinations)?;
        *last += 1;
        let seq = *last;
        let before = self.added.last_of.insert(set.id, seq);
        let prev = before.or_else(|| live.last(set.id)).unwrap_or(0);
        items::insert(self.connection, seq, set.id, prev, append)?;
        if let Some(key) = append.key.as_deref() {
            let accepted_at = to_sql(append.accepted_at);
            let mut statement = self.connection.prepare_cached(INSERT_KEY)?;
            statement.execute(params![key, seq.cast_signed(), accepted_at])?;
            self.added.keys += 1;
        }
        self.added.items.push((set, seq));
        Ok(Appended::New(Seq(seq)))
    }

    fn known(&self, key: Option<&str>) -> Done<Option<Seq>> {
        let Some(key) = key else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(SELECT_KEY)?;
        let seq: Option<i64> = statement.query_row([key], |row| row.get(0)).optional()?;
        Ok(seq.map(|seq| Seq(seq.cast_unsigned())))
    }

    fn mark(&mut self, mark: &Mark) -> Done<()> {
        let destination = self.state.names.id(self.connection, mark.destination())?;
        let delivered = self.state.cursors.of(destination);
        match mark {
            Mark::Begun { transaction, .. } => {
                let open = (transaction.upto.0 > delivered).then_some(transaction);
                self.remember(destination, delivered, open)
            }
            Mark::Withdrawn { .. } => self.remember(destination, delivered, None),
            Mark::Delivered { upto, .. } | Mark::Dropped { upto, .. } => {
                // What nobody wrote yet cannot have been delivered.
                let delivered = delivered.max(upto.0.min(self.state.last));
                self.remember(destination, delivered, None)
            }
        }
    }

    fn remember(&mut self, destination: u32, delivered: u64, open: Option<&OpenTransaction>) -> Done<()> {
        progress::write(self.connection, destination, delivered, open)?;
        self.state.cursors.set(destination, delivered);
        Ok(())
    }
}

const SELECT_KEY: &str = "SELECT seq FROM keys WHERE key = ?1";
const INSERT_KEY: &str = "INSERT INTO keys (key, seq, accepted_at) VALUES (?1, ?2, ?3)";
