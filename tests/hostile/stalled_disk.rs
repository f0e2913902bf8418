//! A disk that is slow, that does not answer, or that goes away.
