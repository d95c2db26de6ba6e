using KvNode.Server.Hosting;

SocketEngine.Prepare();
if (OpenFiles.Max() < KvNode.Server.Limits.FilesMin)
{
    return OpenFiles.Refuse();
}

return await Application.RunAsync(args);
