//! What is volatile, told as stories and as promises.

mod broadcast;
mod promises;
mod receiver;
mod steps;
