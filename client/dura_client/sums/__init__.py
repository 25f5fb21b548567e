"""The site's part of secure sums: sessions over the aggregation plane, and the ports that the gate uses."""
