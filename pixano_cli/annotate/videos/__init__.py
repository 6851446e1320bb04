"""Objects through videos: which frames are looked at, what is followed, and who is who."""
