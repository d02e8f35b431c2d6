//! The promises of the pool: its rules as stories, and what holds whatever happens.

mod properties;
mod world;
