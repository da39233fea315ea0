//! Lists come in parts; a command gathers as many as it was asked for.

use crate::output::Error;

/// The most items of one part.
const PART_MAX: usize = 1_000;

/// How much of a list to show.
#[derive(Debug, clap::Args)]
pub(super) struct Paging {
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on where a list ended: its `next`
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// A part of a list, and where the next one begins.
pub(super) type Part<T> = (Vec<T>, Option<String>);

impl Paging {
    /// Gathers parts. `part` gets one, from a cursor, of at most so many items.
    pub(super) async fn gather<T>(
        &self,
        mut part: impl AsyncFnMut(Option<String>, usize) -> Result<Part<T>, Error>,
    ) -> Result<Part<T>, Error> {
        let wanted = if self.all { usize::MAX } else { self.limit as usize };
        let (mut items, mut next) = part(self.cursor.clone(), wanted.min(PART_MAX)).await?;
        while next.is_some() && items.len() < wanted {
            let (more, after) = part(next, (wanted - items.len()).min(PART_MAX)).await?;
            items.extend(more);
            next = after;
        }
        Ok((items, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers below 2,500, and what was asked for on the way.
    async fn gathered(paging: &Paging) -> (usize, Option<String>, Vec<usize>) {
        let mut asked = Vec::new();
        let (items, next) = paging
            .gather(async |cursor: Option<String>, limit| {
                asked.push(limit);
                let from: usize = cursor.map_or(0, |cursor| cursor.parse().expect("a cursor of ours"));
                let to = (from + limit).min(2_500);
                Ok(((from..to).collect(), (to < 2_500).then(|| to.to_string())))
            })
            .await
            .expect("numbers do not run out");
        assert!(items.is_sorted());
        (items.len(), next, asked)
    }

    fn paging(limit: u32, all: bool, cursor: Option<&str>) -> Paging {
        Paging { limit, all, cursor: cursor.map(str::to_owned) }
    }

    #[tokio::test]
    async fn a_list_is_gathered_up_to_its_limit_and_no_further() {
        assert_eq!(gathered(&paging(100, false, None)).await, (100, Some("100".into()), vec![100]));
        assert_eq!(gathered(&paging(1_500, false, None)).await, (1_500, Some("1500".into()), vec![1_000, 500]));
        assert_eq!(gathered(&paging(100, true, None)).await, (2_500, None, vec![1_000, 1_000, 1_000]));
        assert_eq!(gathered(&paging(100, false, Some("2450"))).await, (50, None, vec![100]));
    }
}
