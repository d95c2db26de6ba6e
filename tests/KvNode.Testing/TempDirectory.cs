namespace KvNode.Testing;

/// <summary>A directory of the test's own, removed with everything in it on dispose.</summary>
public sealed class TempDirectory : IDisposable
{
    public TempDirectory(string label = "test") =>
        Path = Directory.CreateTempSubdirectory($"kvnode-{label}-").FullName;

    public string Path { get; }

    /// <summary>A path inside the directory; nothing is created.</summary>
    public string Sub(string name) => System.IO.Path.Combine(Path, name);

    public void Dispose()
    {
        try
        {
            Directory.Delete(Path, recursive: true);
        }
        catch (DirectoryNotFoundException)
        {
            // The test removed it itself.
        }
    }
}
