"""The admin pages of the articles, as Django makes them."""
from django.contrib import admin

from shop.models import Article

admin.site.register(Article)
