using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace KvNode.Testing;

/// <summary>How a program is to be started.</summary>
public sealed record ChildStart
{
    public required string Program { get; init; }

    public string[] Arguments { get; init; } = [];

    /// <summary>Added to this process's environment.</summary>
    public IReadOnlyDictionary<string, string> Environment { get; init; } = new Dictionary<string, string>(StringComparer.Ordinal);

    public string? WorkingDirectory { get; init; }
}

/// <summary>A running program whose output is gathered. Killed on dispose.</summary>
public sealed class ChildProcess : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _errors = new();

    public ChildProcess(ChildStart start)
    {
        var info = new ProcessStartInfo(start.Program, start.Arguments)
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = start.WorkingDirectory ?? "",
        };
        foreach (var (name, value) in start.Environment)
        {
            info.Environment[name] = value;
        }

        _process = Process.Start(info) ?? throw new InvalidOperationException($"{start.Program} did not start");
        _process.OutputDataReceived += (_, line) => Gather(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Gather(_errors, line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        _process.StandardInput.Close();
        Pid = _process.Id;
    }

    public int Pid { get; }

    public bool HasExited => _process.HasExited;

    /// <summary>What it wrote to standard output so far.</summary>
    public string OutputText => Locked(_output);

    /// <summary>What it wrote to standard error so far.</summary>
    public string ErrorText => Locked(_errors);

    /// <summary>Exit code, or 128 + the signal's number.</summary>
    /// <exception cref="TimeoutException">It still runs.</exception>
    public int WaitForExit(TimeSpan timeout)
    {
        if (!_process.WaitForExit(timeout))
        {
            throw new TimeoutException($"process {Pid} still runs after {timeout.TotalSeconds} s; its errors:\n{ErrorText}");
        }

        _process.WaitForExit();
        return _process.ExitCode;
    }

    public void Signal(int signal)
    {
        if (!_process.HasExited)
        {
            Posix.Signal(Pid, signal);
        }
    }

    /// <summary>kill -9 and wait until it is gone.</summary>
    public void Kill9()
    {
        Signal(Posix.SignalKill);
        _ = WaitForExit(TimeSpan.FromSeconds(30));
    }

    /// <summary>Resident memory that is the process's own (not pages of mapped files), in bytes.</summary>
    public long PrivateMemoryBytes => StatusField("RssAnon");

    /// <summary>Whether a SIGSTOP has brought every thread to a halt.</summary>
    public bool IsStopped => Directory.EnumerateDirectories($"/proc/{Pid}/task").All(static task =>
    {
        // "pid (name) state ...": the name may hold anything, a parenthesis too.
        var status = File.ReadAllText(Path.Combine(task, "stat"));
        return status[status.LastIndexOf(')') + 2] is 'T' or 't';
    });

    private long StatusField(string name)
    {
        foreach (var line in File.ReadLines($"/proc/{Pid}/status"))
        {
            if (line.StartsWith(name + ":", StringComparison.Ordinal))
            {
                var digits = line.Where(char.IsAsciiDigit).ToArray();
                return long.Parse(digits, NumberStyles.None, CultureInfo.InvariantCulture) * 1024;
            }
        }

        throw new InvalidDataException($"/proc/{Pid}/status has no {name}");
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            // A stopped process dies of SIGKILL too.
            Posix.Signal(Pid, Posix.SignalKill);
            _process.WaitForExit();
        }

        _process.Dispose();
    }

    private static void Gather(StringBuilder into, string? line)
    {
        if (line is null)
        {
            return;
        }

        lock (into)
        {
            into.AppendLine(line);
        }
    }

    private static string Locked(StringBuilder from)
    {
        lock (from)
        {
            return from.ToString();
        }
    }
}
