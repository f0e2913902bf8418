//! Which objects are asked for how often.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

/// Exponents above this ask for one object practically always.
pub const THETA_MAX: f64 = 10.0;

/// A distribution over the numbers of objects.
#[derive(Clone, Copy, Debug)]
pub struct Popularity {
    objects: u64,
    /// `None` is uniform.
    zipf: Option<Zipf<f64>>,
}

impl Popularity {
    /// Over `objects`, at least 1. With an exponent the object with number `i` is asked for in
    /// proportion to `1 / (i + 1)^theta`.
    pub fn new(objects: u64, theta: Option<f64>) -> Self {
        assert!(objects > 0, "nothing can be asked for");
        let zipf = theta.filter(|theta| *theta > 0.0).map(|theta| {
            Zipf::new(objects as f64, theta).expect("a positive number of objects and a positive finite exponent")
        });
        Self { objects, zipf }
    }

    /// Reads an exponent.
    pub fn parse_theta(text: &str) -> Result<f64, String> {
        let theta = text.trim().parse().ok().filter(|theta| (0.0..=THETA_MAX).contains(theta));
        theta.ok_or_else(|| format!("an exponent is a number of 0 (uniform) to {THETA_MAX}, such as 0.99"))
    }

    pub fn pick(&self, random: &mut impl Rng) -> u64 {
        match &self.zipf {
            None => random.random_range(0..self.objects),
            // Ranks start at 1.
            Some(zipf) => (zipf.sample(random) as u64).clamp(1, self.objects) - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const DRAWS: u32 = 200_000;

    fn counts(objects: u64, theta: Option<f64>) -> Vec<f64> {
        let popularity = Popularity::new(objects, theta);
        let mut random = SmallRng::seed_from_u64(42);
        let mut counts = vec![0.0; objects as usize];
        for _ in 0..DRAWS {
            counts[popularity.pick(&mut random) as usize] += 1.0;
        }
        counts
    }

    /// Pearson's statistic over the number of degrees of freedom: near 1 when the draws come from
    /// the expected distribution.
    fn misfit(counts: &[f64], weights: &[f64]) -> f64 {
        let total: f64 = weights.iter().sum();
        let square = |(count, weight): (&f64, &f64)| {
            let expected = f64::from(DRAWS) * weight / total;
            (count - expected) * (count - expected) / expected
        };
        counts.iter().zip(weights).map(square).sum::<f64>() / (counts.len() - 1) as f64
    }

    #[test]
    fn zipf_has_the_shape_of_the_theory() {
        for theta in [0.5, 0.99, 1.0, 1.5] {
            let weights: Vec<f64> = (1..=50).map(|rank| f64::from(rank).powf(-theta)).collect();
            let counts = counts(50, Some(theta));
            // With 49 degrees of freedom the quotient is below 2 in all but a millionth of all
            // samples.
            let found = misfit(&counts, &weights);
            assert!(found < 2.0, "theta {theta}: {found}");
            let uniform = misfit(&counts, &[1.0; 50]);
            assert!(uniform > 10.0, "theta {theta} is not uniform: {uniform}");
        }
    }

    #[test]
    fn without_an_exponent_every_object_is_asked_for_alike() {
        for theta in [None, Some(0.0)] {
            let found = misfit(&counts(50, theta), &[1.0; 50]);
            assert!(found < 2.0, "{found}");
        }
    }

    #[test]
    fn one_object_is_always_picked() {
        let mut random = SmallRng::seed_from_u64(1);
        for theta in [None, Some(0.99), Some(1.0), Some(10.0)] {
            assert!((0..100).all(|_| Popularity::new(1, theta).pick(&mut random) == 0));
        }
    }

    #[test]
    fn what_is_no_exponent_is_refused() {
        for text in ["", "x", "-1", "nan", "inf", "10.1"] {
            assert!(Popularity::parse_theta(text).is_err(), "{text}");
        }
        assert_eq!(Popularity::parse_theta("0.99"), Ok(0.99));
    }
}
