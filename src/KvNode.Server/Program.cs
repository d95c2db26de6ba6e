using KvNode.Server.Hosting;

SocketEngine.Prepare();
return await Application.RunAsync(args);
