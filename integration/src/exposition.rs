//! Reading metrics in the text formats of Prometheus and OpenMetrics, as far as tests ask for them.

/// One page of metrics.
#[derive(Clone, Debug)]
pub struct Exposition(String);

/// One sample of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'p> {
    /// The name, with the suffix of its kind.
    pub name: &'p str,
    /// The labels as they are written, without the braces.
    pub labels: &'p str,
    /// The value.
    pub value: f64,
}

impl Exposition {
    /// Takes a page.
    pub fn new(page: impl Into<String>) -> Self {
        Self(page.into())
    }

    /// Returns all samples.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(sample)
    }

    /// Returns the samples of this name whose labels contain all of `labels`.
    pub fn select<'p>(&'p self, name: &str, labels: &[&str]) -> Vec<Sample<'p>> {
        self.samples()
            .filter(|sample| sample.name == name && labels.iter().all(|label| sample.labels.contains(label)))
            .collect()
    }

    /// Returns the sum of the samples of this name whose labels contain all of `labels`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.select(name, labels).iter().map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    // Values of labels may contain spaces and braces, but what follows the last brace is numbers.
    let (series, rest) = match line.rfind('}') {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => line.split_once(' ')?,
    };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE a gauge\na 1\nb{x=\"1 } 2\",y=\"z\"} 2.5\nb{x=\"2\"} 3 1700000000\n# EOF\n";

    #[test]
    fn samples_have_names_labels_and_values() {
        let page = Exposition::new(PAGE);
        assert_eq!(page.samples().count(), 3);
        assert_eq!(page.sum("a", &[]), 1.0);
        assert_eq!(page.sum("b", &[]), 5.5);
        assert_eq!(page.select("b", &["y=\"z\""])[0].labels, "x=\"1 } 2\",y=\"z\"");
        assert_eq!(page.sum("b", &["y=\"z\"", "x=\"2\""]), 0.0);
    }
}
