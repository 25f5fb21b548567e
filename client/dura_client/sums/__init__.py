"""The site's end of secure sums: sessions over the aggregation plane, and the ports that the gate uses."""
