"""Query to hits: embedding, exact and approximate nearest neighbours, quotes, relevance."""
