package nameless

var (
	CreateUnlinked = createUnlinked
	LacksTmpfile   = lacksTmpfile
)
