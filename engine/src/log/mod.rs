//! How bytes become durable, and what is found after a crash.
