//! spanwire
