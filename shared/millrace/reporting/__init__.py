"""Building blocks of HTML reports: escaping, the page, tables, tiles, figures. Nothing here knows what it reports."""
