//! Counters, gauges and histograms of the program: native objects whose methods are one atomic add.
//!
//! # Units
//! Those that a figure is registered with: `count`, `seconds`, `bytes`, `ratio`. Where none is said, the end of its name
//! says it.
//!
//! # Source
//! K10.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt};

use crate::seam::{self, Metric, RegisterError, Unit};
use crate::{errors, statistics, values};

/// A number that only grows.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Counter {
    figure: seam::Counter,
    named: Named,
}

/// A number that goes up and down.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Gauge {
    figure: seam::Gauge,
    named: Named,
}

/// How values are spread.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Histogram {
    figure: seam::Histogram,
    named: Named,
}

/// The counter called `name` with these labels: the same one however often it is asked for.
#[pyfunction]
#[pyo3(signature = (name, help="", *, unit=None, labels=None))]
pub fn counter(
    py: Python<'_>,
    name: &str,
    help: &str,
    unit: Option<&str>,
    labels: Option<&Bound<'_, PyDict>>,
) -> PyResult<Counter> {
    let register =
        |metric: &Metric<'_>| statistics::region_of_figures(py)?.counter(metric).map_err(refused(py));
    let (figure, named) = registered(name, help, unit, labels, register)?;
    Ok(Counter { figure, named })
}

/// The gauge called `name` with these labels: the same one however often it is asked for.
#[pyfunction]
#[pyo3(signature = (name, help="", *, unit=None, labels=None))]
pub fn gauge(
    py: Python<'_>,
    name: &str,
    help: &str,
    unit: Option<&str>,
    labels: Option<&Bound<'_, PyDict>>,
) -> PyResult<Gauge> {
    let register =
        |metric: &Metric<'_>| statistics::region_of_figures(py)?.gauge(metric).map_err(refused(py));
    let (figure, named) = registered(name, help, unit, labels, register)?;
    Ok(Gauge { figure, named })
}

/// The histogram called `name` with these labels: the same one however often it is asked for.
#[pyfunction]
#[pyo3(signature = (name, help="", *, unit=None, labels=None))]
pub fn histogram(
    py: Python<'_>,
    name: &str,
    help: &str,
    unit: Option<&str>,
    labels: Option<&Bound<'_, PyDict>>,
) -> PyResult<Histogram> {
    let register =
        |metric: &Metric<'_>| statistics::region_of_figures(py)?.histogram(metric).map_err(refused(py));
    let (figure, named) = registered(name, help, unit, labels, register)?;
    Ok(Histogram { figure, named })
}

#[pymethods]
impl Counter {
    /// Adds `more`, which is not negative.
    #[pyo3(signature = (more=None, /), text_signature = "($self, more=1, /)")]
    fn add(&self, py: Python<'_>, more: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        in_this_process(py);
        match more {
            None => self.figure.add(1),
            Some(more) => match self.named.number(more)? {
                Number::Whole(more) => match u64::try_from(more) {
                    Ok(more) => self.figure.add(more),
                    Err(_) => return Err(self.named.refuse(more, "a counter only grows; use a gauge")),
                },
                Number::Broken(more) if more >= 0.0 => self.figure.add_f64(more),
                Number::Broken(more) => {
                    return Err(self.named.refuse(more, "a counter only grows; use a gauge"));
                }
            },
        }
        Ok(())
    }

    /// The number now.
    #[getter]
    fn value(&self) -> Shown {
        if self.named.unit.per_one() == 1 {
            Shown::Whole(self.figure.get().cast_signed())
        } else {
            Shown::Broken(self.figure.get_f64())
        }
    }

    fn __repr__(&self) -> String {
        format!("<Counter {}: {}>", self.named.name, self.figure.get_f64())
    }
}

#[pymethods]
impl Gauge {
    /// The number is `value` now.
    #[pyo3(signature = (value, /))]
    fn set(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        in_this_process(py);
        self.figure.set(self.named.number(value)?.as_f64());
        Ok(())
    }

    /// It changes by `more`, which may be negative.
    #[pyo3(signature = (more=None, /), text_signature = "($self, more=1, /)")]
    fn add(&self, py: Python<'_>, more: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        in_this_process(py);
        let more = more.map_or(Ok(1.0), |more| self.named.number(more).map(Number::as_f64))?;
        self.figure.add(more);
        Ok(())
    }

    /// The number now.
    #[getter]
    fn value(&self) -> Shown {
        let value = self.figure.get();
        if self.named.unit.per_one() == 1 { Shown::Whole(value as i64) } else { Shown::Broken(value) }
    }

    fn __repr__(&self) -> String {
        format!("<Gauge {}: {}>", self.named.name, self.figure.get())
    }
}

#[pymethods]
impl Histogram {
    /// Counts one `value`, which is not negative.
    #[pyo3(signature = (value, /))]
    fn observe(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        in_this_process(py);
        let value = self.named.number(value)?.as_f64();
        if value < 0.0 {
            return Err(self.named.refuse(value, "what is observed is not negative"));
        }
        self.figure.observe(value);
        Ok(())
    }

    /// How many values there were.
    #[getter]
    fn count(&self) -> u64 {
        self.figure.count()
    }

    /// All of them together.
    #[getter]
    fn sum(&self) -> f64 {
        self.figure.sum()
    }

    fn __repr__(&self) -> String {
        format!("<Histogram {} of {}>", self.named.name, self.figure.count())
    }
}

/// What a figure is called, for errors.
struct Named {
    name: Box<str>,
    unit: Unit,
}

/// A number from Python, not yet in a cell.
#[derive(Clone, Copy)]
enum Number {
    Whole(i64),
    Broken(f64),
}

/// A number for Python.
#[derive(IntoPyObject)]
enum Shown {
    Whole(i64),
    Broken(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Broken(broken) => broken,
        }
    }
}

impl Named {
    fn number(&self, value: &Bound<'_, PyAny>) -> PyResult<Number> {
        if value.is_exact_instance_of::<PyInt>() {
            return match value.extract() {
                Ok(whole) => Ok(Number::Whole(whole)),
                Err(_) => Err(self.refuse(value, "the most is 2**63 - 1")),
            };
        }
        let number: f64 = match value.cast::<PyFloat>() {
            Ok(float) => float.value(),
            Err(_) => value.extract()?,
        };
        if !number.is_finite() {
            return Err(self.refuse(number, "it is no number"));
        }
        if self.unit.per_one() == 1 && number.fract() != 0.0 {
            let kept = format!("it counts whole {}; register it with unit=\"ratio\"", self.unit.name());
            return Err(self.refuse(number, &kept));
        }
        Ok(Number::Broken(number))
    }

    fn refuse(&self, value: impl std::fmt::Display, why: &str) -> PyErr {
        PyValueError::new_err(format!("{} cannot take {value}: {why}", self.name))
    }
}

fn in_this_process(py: Python<'_>) {
    if !statistics::is_settled() {
        statistics::settle_in_child(py);
    }
}

fn registered<T>(
    name: &str,
    help: &str,
    unit: Option<&str>,
    labels: Option<&Bound<'_, PyDict>>,
    register: impl FnOnce(&Metric<'_>) -> PyResult<T>,
) -> PyResult<(T, Named)> {
    let unit = match unit {
        None => unit_of(name),
        Some(unit) => Unit::from_name(unit).ok_or_else(|| {
            let known = Unit::ALL.map(Unit::name).join(", ");
            PyValueError::new_err(format!("{unit:?} is no unit of {name}; there are {known}"))
        })?,
    };
    let labels = labels.map_or(Ok(Vec::new()), |labels| values::pairs(labels, "labels"))?;
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let figure = register(&Metric::new(name, help).in_unit(unit).with(&labels))?;
    Ok((figure, Named { name: name.into(), unit }))
}

/// What the end of a name says, as Prometheus has it.
fn unit_of(name: &str) -> Unit {
    let name = name.strip_suffix("_total").unwrap_or(name);
    match name.rsplit('_').next() {
        Some("seconds") => Unit::Seconds,
        Some("bytes") => Unit::Bytes,
        Some("ratio") => Unit::Ratio,
        _ => Unit::Count,
    }
}

fn refused(py: Python<'_>) -> impl Fn(RegisterError) -> PyErr {
    move |error| match error {
        RegisterError::Full { .. } => errors::named(py, "StatisticsFull", &error.to_string()),
        RegisterError::Otherwise { .. } => PyTypeError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}
