//! The kernel itself. Under construction.

/// Under construction.
#[derive(Clone, Debug)]
pub struct Kernel;
/// Under construction.
#[derive(Clone, Debug, Default)]
pub struct KernelConfig;
