namespace KvNode.Testing;

/// <summary>Where the checkout and the built program are.</summary>
public static class Repository
{
    /// <summary>Path of a program to test instead of the one built in this checkout.</summary>
    public const string BinaryVariable = "KVNODE_BIN";

    /// <summary>The folder with KvNode.sln.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The program under test.</summary>
    public static string NodeBinary => FindBinary();

    private static string FindRoot()
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "KvNode.sln")))
            {
                return at.FullName;
            }
        }

        throw new FileNotFoundException($"no KvNode.sln above {AppContext.BaseDirectory}");
    }

    private static string FindBinary()
    {
        var path = Environment.GetEnvironmentVariable(BinaryVariable) ??
            Path.Combine(Root, "artifacts", "kvnode", "kvnode");
        return File.Exists(path)
            ? path
            : throw new FileNotFoundException($"{path} is not there: run ./build.sh first, or set {BinaryVariable}");
    }
}
