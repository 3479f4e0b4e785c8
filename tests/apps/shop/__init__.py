"""A Django project as `startproject` lays it out, with its admin and a database in the folder `SHOP_FOLDER`."""
