//! Seeded disk and clock behind the seam.
