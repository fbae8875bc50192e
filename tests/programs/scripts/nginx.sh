# nginx: master and workers, a proxy to itself, reload, an orderly end; curl
# needs: nginx curl
mkdir pages
echo page > pages/i.html
chmod 755 . pages
cat > nginx.conf <<X
daemon off;
error_log $PWD/error.log;
pid $PWD/nginx.pid;
worker_processes 2;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path $PWD/pages; proxy_temp_path $PWD/pages; fastcgi_temp_path $PWD/pages;
    uwsgi_temp_path $PWD/pages; scgi_temp_path $PWD/pages;
    server {
        listen 127.0.0.1:$PORT;
        root $PWD/pages;
        location /proxied { proxy_pass http://127.0.0.1:$PORT/i.html; }
    }
}
X
nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
curl -s --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:$PORT/i.html
curl -s http://127.0.0.1:$PORT/proxied
curl -sI http://localhost:$PORT/none | head -1
nginx -p "$PWD" -c "$PWD/nginx.conf" -s reload 2>/dev/null
curl -s --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:$PORT/i.html
nginx -p "$PWD" -c "$PWD/nginx.conf" -s quit 2>/dev/null
wait
echo $?
