"""What tables of numbers and categories share: how columns become numbers, how splits are drawn, published ones."""
