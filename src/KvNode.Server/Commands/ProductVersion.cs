namespace KvNode.Server.Commands;

/// <summary>What the server calls itself.</summary>
internal static class ProductVersion
{
    /// <summary>
    /// The Redis whose commands, replies and error texts this server follows. Clients choose what they dare to send by
    /// it, so HELLO and INFO's <c>redis_version</c> say this; INFO's <c>kvnode_version</c> is the program's own.
    /// </summary>
    public const string Redis = "7.0.15";

    public static string KvNode { get; } =
        typeof(ProductVersion).Assembly.GetName().Version is { } version ? version.ToString(3) : "0.0.0";
}
