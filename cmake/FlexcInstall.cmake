# Installation rules are here so that one file says what a package holds.
