//! The resolver against a scripted world.
