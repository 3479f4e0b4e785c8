"""Something to sell, with a file that the admin can upload."""
from django.db import models


class Article(models.Model):
    name = models.CharField(max_length=40)
    manual = models.FileField(blank=True)

    def __str__(self):
        return self.name
