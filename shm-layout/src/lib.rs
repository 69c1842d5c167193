//! shm-layout
