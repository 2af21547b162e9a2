"""What is done to teams and keys, whoever asks: the commands and the admin API."""
