using System.Diagnostics;
using Xunit;

namespace KvNode.Storage.Tests;

public sealed class DirectoryLockTests
{
    [Fact]
    public void SecondHolderIsToldTheDirectoryAndTheProcess()
    {
        using var directory = new DiskTestDirectory();
        using var held = DirectoryLock.Acquire(directory.Path);
        var refused = Assert.Throws<DirectoryLockedException>(() => DirectoryLock.Acquire(directory.Path));
        Assert.Equal(Environment.ProcessId, refused.ProcessId);
        Assert.Equal(directory.Path, refused.Directory);
        Assert.Contains($"'{directory.Path}'", refused.Message, StringComparison.Ordinal);
        Assert.Contains($"pid {Environment.ProcessId}", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LockIsFreeAfterItsHolderLetsGo()
    {
        using var directory = new DiskTestDirectory();
        var path = Path.Combine(directory.Path, "made", "on the way");
        DirectoryLock.Acquire(path).Dispose();
        DirectoryLock.Acquire(path).Dispose();
        Assert.Equal($"{Environment.ProcessId}\n", File.ReadAllText(Path.Combine(path, "LOCK")));
    }

    [Theory]
    [InlineData("12345\n", 12345)]
    [InlineData("", null)]
    [InlineData("no number\n", null)]
    public void LockOfAnotherProcessEndsWithThatProcess(string content, int? shown)
    {
        using var directory = new DiskTestDirectory();
        var file = Path.Combine(directory.Path, "LOCK");
        File.WriteAllText(file, content);

        // -o: only flock itself holds the lock, not the command it runs, so its end is the lock's end.
        using var other = Process.Start(new ProcessStartInfo("flock", ["-o", file, "sh", "-c", "echo locked; exec sleep 600"])
        {
            RedirectStandardOutput = true,
            UseShellExecute = false,
        })!;
        try
        {
            Assert.Equal("locked", other.StandardOutput.ReadLine());
            var refused = Assert.Throws<DirectoryLockedException>(() => DirectoryLock.Acquire(directory.Path));
            Assert.Equal(shown, refused.ProcessId);
        }
        finally
        {
            other.Kill(entireProcessTree: true);
            other.WaitForExit();
        }

        DirectoryLock.Acquire(directory.Path).Dispose();
    }
}
