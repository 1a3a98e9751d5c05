# An image of the HTTP service: docker build -f deploy/docker/serve.Dockerfile -t polymodal-serve .
FROM python:3.11-slim
RUN useradd --create-home polymodal
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch \
    && pip install --no-cache-dir -c constraints.txt '.[audio,serve,video]' \
    && rm -rf /source
WORKDIR /home/polymodal
USER polymodal
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
# The service needs POLYMODAL_API_KEY, because other machines reach it; the models are arguments.
ENTRYPOINT ["polymodal", "serve", "--host", "0.0.0.0"]
