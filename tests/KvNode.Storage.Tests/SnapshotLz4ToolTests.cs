using System.ComponentModel;
using System.Diagnostics;
using Xunit;
using static KvNode.Storage.Tests.SnapshotSupport;

namespace KvNode.Storage.Tests;

/// <summary>Debian's <c>lz4</c> as the judge of our frames, and as another writer of them.</summary>
public sealed class SnapshotLz4ToolTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("kvnode-lz4-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void TheToolAcceptsAndDecodesOurFiles()
    {
        var records = RandomRecords(new Random(5), 500);
        var file = Write(records);
        var path = Path.Combine(_directory, "state.bin");
        File.WriteAllBytes(path, file);

        Assert.Equal(0, Lz4($"-t {path}"));
        Assert.Equal(0, Lz4($"-d -f {path} {path}.content"));
        Assert.Equal(Decompress(file), File.ReadAllBytes(path + ".content"));
    }

    [Fact]
    public void AFileCompressedAgainByTheToolIsStillRead()
    {
        var records = RandomRecords(new Random(6), 500);
        var path = Path.Combine(_directory, "content");
        File.WriteAllBytes(path, Decompress(Write(records)));

        foreach (var options in new[] { "-1", "-9 -BD -B7", "-B4 --no-frame-crc", "--content-size" })
        {
            Assert.Equal(0, Lz4($"-f {options} {path} {path}.lz4"));
            AssertSame(records, Read(File.ReadAllBytes(path + ".lz4")).Records);
        }
    }

    private static int Lz4(string arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo("lz4", arguments)
            {
                UseShellExecute = false,
                RedirectStandardError = true,
                RedirectStandardOutput = true,
            })!;
            _ = process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (Win32Exception)
        {
            Assert.Skip("the lz4 tool is not installed (Debian package: lz4)");
            return -1;
        }
    }
}
