-- one row per file of this run that could be read to its end
SELECT file_no, name FROM run_files WHERE readable
