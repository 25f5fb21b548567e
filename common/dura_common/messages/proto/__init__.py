"""Wire types of the aggregation plane, generated from aggregation.proto by `make proto`; never edited by hand."""
