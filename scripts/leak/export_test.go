package leak

// RunTo runs the tests and tells report what they left.
var RunTo = Checked.run
