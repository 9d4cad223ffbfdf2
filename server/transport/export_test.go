package transport

// MaxFields is maxFields.
const MaxFields = maxFields
