//! The distribution of latencies as text, as HdrHistogram's own tools write it (`.hgrm`): its
//! plotters read this.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Steps in each halving of the distance to 100 %, as the other tools take them.
const TICKS_PER_HALF: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// Writes the distribution of nanoseconds, in milliseconds.
pub fn write_percentiles(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for entry in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += entry.count_since_last_iteration();
        let value = entry.value_iterated_to() as f64 / NS_PER_MS;
        let quantile = entry.quantile_iterated_to();
        write!(out, "{value:>12.3} {quantile:>14.12} {total:>10}")?;
        if quantile < 1.0 {
            writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, " {:>14}", "inf")?;
        }
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_MS, histogram.stdev() / NS_PER_MS);
    writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    writeln!(
        out,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        histogram.max() as f64 / NS_PER_MS,
        histogram.len()
    )?;
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), 2048)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_ends_with_all_values_and_the_largest() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 40, 3).expect("fixed bounds");
        for millisecond in 1..=1_000u64 {
            histogram.record(millisecond * 1_000_000).expect("in the bounds");
        }
        let mut text = Vec::new();
        write_percentiles(&mut text, &histogram).expect("a vector takes everything");
        let text = String::from_utf8(text).expect("text");
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
            .collect();
        assert!(rows.iter().all(|row| row.len() == 4), "{text}");
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]), "{text}");
        let half = rows.iter().find(|row| row[1] >= 0.5).expect("a median");
        assert!((499.0..=501.0).contains(&half[0]), "{half:?}");
        let last = rows.last().expect("rows");
        assert!((999.0..=1_001.0).contains(&last[0]) && last[2] == 1_000.0 && last[1] == 1.0, "{last:?}");
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
