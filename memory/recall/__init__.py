"""What is recalled: indexes of a scope, what a query means, and one order of all that was found."""
