"""What there is: files, stores, which file is in which store and how far it is, and the texts of all passages."""
