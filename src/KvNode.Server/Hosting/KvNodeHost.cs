namespace KvNode.Server.Hosting;

/// <summary>Composition root.</summary>
internal static class KvNodeHost
{
    public static Task<int> RunAsync(NodeOptions options)
    {
        Console.Error.WriteLine($"kvnode: {options.Listen}: no node in this build");
        return Task.FromResult(ExitCodes.Internal);
    }
}
