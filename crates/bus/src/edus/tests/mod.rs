//! What is volatile, told as stories and as promises.

mod promises;
mod receiver;
mod steps;
