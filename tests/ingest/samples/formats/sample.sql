CREATE TABLE station (
    height integer DEFAULT 63
);
