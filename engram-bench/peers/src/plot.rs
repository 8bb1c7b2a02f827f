//! Line charts as SVG: both axes logarithmic, a few kilobytes each, no fonts or scripts of their
//! own. Deliberately absent: everything that a plotting library would bring besides.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 44.0;
/// Told apart by people who see colours differently (Okabe and Ito's), and darker greys.
const COLOURS: [&str; 10] = [
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#888888",
    "#7a5195", "#8c6d31",
];

/// A chart.
#[derive(Debug)]
pub(crate) struct Chart {
    /// What it shows.
    pub(crate) title: String,
    /// What the horizontal axis counts, and the vertical one.
    pub(crate) axes: [&'static str; 2],
    /// Names and points; points that are not above 0 have no place here.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// One axis: from a value to a place.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        // A lonely value stands in the middle.
        if low < high {
            Self { low, high, from, to }
        } else {
            Self { low: low / 2.0, high: low * 2.0, from, to }
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// Values to write beside it: 1, 2 and 5 of each power of ten.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut power = 10_f64.powf(self.low.log10().floor());
        while power <= self.high {
            let here = [1.0, 2.0, 5.0].map(|part| part * power);
            ticks.extend(here.into_iter().filter(|tick| (self.low..=self.high).contains(tick)));
            power *= 10.0;
        }
        // Fewer words where the range is wide.
        if ticks.len() > 9 {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-9);
        }
        ticks
    }
}

impl Chart {
    /// The whole file.
    pub(crate) fn svg(&self) -> String {
        let points = || {
            let all = self.lines.iter().flat_map(|(_, points)| points.iter().copied());
            all.filter(|(x, y)| *x > 0.0 && *y > 0.0)
        };
        let horizontal = Axis::over(points().map(|(x, _)| x), LEFT, WIDTH - RIGHT);
        let vertical = Axis::over(points().map(|(_, y)| y), HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            escaped(&self.title)
        );
        self.grid(&horizontal, &vertical, &mut svg);
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or_default();
            let dash = if number < COLOURS.len() { "" } else { " stroke-dasharray=\"4 3\"" };
            let mut path = String::new();
            for (x, y) in points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0) {
                let (x, y) = (horizontal.place(*x), vertical.place(*y));
                let _infallible = write!(path, "{x:.1},{y:.1} ");
            }
            let width = if number == 0 { 3 } else { 2 };
            let (key, name) =
                (TOP + 16.0 * f64::from(u32::try_from(number).unwrap_or(0)), escaped(name));
            let (from, to) = (WIDTH - RIGHT + 12.0, WIDTH - RIGHT + 32.0);
            let _infallible = write!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>\n\
                 <line x1=\"{from}\" y1=\"{key}\" x2=\"{to}\" y2=\"{key}\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>\n\
                 <text x=\"{}\" y=\"{}\">{name}</text>\n",
                path.trim_end(),
                to + 6.0,
                key + 4.0,
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn grid(&self, horizontal: &Axis, vertical: &Axis, svg: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in horizontal.ticks() {
            let x = horizontal.place(tick);
            let _infallible = write!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                bottom + 16.0,
                short(tick)
            );
        }
        for tick in vertical.ticks() {
            let y = vertical.place(tick);
            let _infallible = write!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 6.0,
                y + 4.0,
                short(tick)
            );
        }
        let [below, beside] = self.axes.map(escaped);
        let _infallible = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{below}</text>\n\
             <text x=\"14\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1})\">{beside}</text>\n",
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0,
            f64::midpoint(TOP, bottom),
            f64::midpoint(TOP, bottom),
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A tick's value as people write it.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value if value >= 0.1 => format!("{value}"),
        value => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_name_is_drawn_within_the_frame() {
        let chart = Chart {
            title: "a < b".into(),
            axes: ["writers", "records/s"],
            lines: vec![
                ("one".into(), vec![(1.0, 100.0), (128.0, 90_000.0)]),
                ("two".into(), vec![(1.0, 50.0), (0.0, 7.0)]),
            ],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b") && svg.contains(">one<") && svg.contains(">two<"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        // The corner of the lowest and the highest; the point at 0 is left out.
        assert!(svg.contains("560.0,36.0"), "{svg}");
        assert!(svg.contains("points=\"64.0,376.0\""), "{svg}");
    }

    #[test]
    fn a_lonely_point_has_a_place() {
        let axis = Axis::over([7.0].into_iter(), 0.0, 100.0);
        assert!((axis.place(7.0) - 50.0).abs() < 1e-9);
    }
}
