using System.Diagnostics;
using System.Text;

namespace KvNode.Testing;

/// <summary>What a program said and how it ended.</summary>
public sealed record ToolResult(int ExitCode, byte[] Output, string Errors)
{
    public string Text => Encoding.UTF8.GetString(Output);
}

/// <summary>Runs the programs tests lean on: redis-cli, redis-benchmark, lz4, gcc, mount.</summary>
public static class Tool
{
    /// <summary>Full path, or null when it is nowhere on PATH.</summary>
    public static string? Find(string name)
    {
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':');
        return folders.Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
    }

    /// <summary>Skips the running test when the program is not installed.</summary>
    public static string Require(string name)
    {
        var path = Find(name);
        if (path is null)
        {
            TestSkip.Because($"{name} missing");
        }

        return path;
    }

    /// <summary>Runs a program to its end; skips the test when it is not installed.</summary>
    /// <exception cref="TimeoutException">It was killed at the timeout.</exception>
    public static ToolResult Run(string name, string[] arguments, byte[]? input = null, TimeSpan? timeout = null) =>
        RunFrom(name, arguments, input is null ? null : new MemoryStream(input, writable: false), timeout);

    /// <summary>As <see cref="Run"/>, with standard input read from a stream (disposed here).</summary>
    public static ToolResult RunFrom(string name, string[] arguments, Stream? input, TimeSpan? timeout = null)
    {
        var limit = timeout ?? TimeSpan.FromSeconds(60);
        var path = name.Contains('/', StringComparison.Ordinal) ? name : Require(name);
        var info = new ProcessStartInfo(path, arguments)
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(info) ?? throw new InvalidOperationException($"{name} did not start");
        var output = new MemoryStream();
        var reading = process.StandardOutput.BaseStream.CopyToAsync(output);
        var errors = process.StandardError.ReadToEndAsync();
        var feeding = FeedAsync(process, input);
        if (!process.WaitForExit(limit))
        {
            process.Kill();
            throw new TimeoutException($"{name} {string.Join(' ', arguments)} still ran after {limit.TotalSeconds} s");
        }

        Task.WaitAll(reading, errors, feeding);
        return new ToolResult(process.ExitCode, output.ToArray(), errors.Result);
    }

    /// <summary>As <see cref="Run"/>, and any exit code but 0 is an error.</summary>
    public static ToolResult RunOk(string name, string[] arguments, byte[]? input = null, TimeSpan? timeout = null)
    {
        var result = Run(name, arguments, input, timeout);
        return result.ExitCode == 0
            ? result
            : throw new InvalidOperationException(
                $"{name} {string.Join(' ', arguments)} ended with {result.ExitCode}: {result.Errors}{result.Text}");
    }

    private static async Task FeedAsync(Process process, Stream? input)
    {
        try
        {
            if (input is not null)
            {
                await using (input)
                {
                    await input.CopyToAsync(process.StandardInput.BaseStream);
                }
            }

            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // The program ended before it read everything; its exit code tells.
        }
    }
}
